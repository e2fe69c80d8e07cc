// Draws each canvas from the JSON beside it, and gives it the new numbers after each refresh, without drawing it anew.
"use strict";

const drawn = new Map();
const HUES = ["rm-hue-1", "rm-hue-2"];

function colour(name) {
    return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
}

function datasets(data, canvas) {
    return Object.entries(data.series).map(([label, values], number) => ({
        label,
        data: values,
        borderColor: colour(HUES[number]),
        backgroundColor: colour(HUES[number]),
        borderDash: number ? [5, 4] : [],
        borderWidth: 2,
        pointRadius: data.times.length > 1 ? 0 : 3,
        tension: 0.2,
        yAxisID: label === canvas.dataset.secondAxis ? "second" : "y",
    }));
}

function labels(times) {
    const long = times.length && new Date(times.at(-1)) - new Date(times[0]) > 86_400_000;
    const format = new Intl.DateTimeFormat([], long ? { dateStyle: "short", timeStyle: "short" } : { timeStyle: "short" });
    return times.map((time) => format.format(new Date(time)));
}

function options(canvas) {
    const text = colour("rm-text");
    const axis = { beginAtZero: true, ticks: { color: text, maxTicksLimit: 5 }, grid: { color: colour("rm-line") } };
    const scales = { x: { ticks: { color: text, maxTicksLimit: 6, autoSkipPadding: 16, maxRotation: 0 }, grid: { display: false } }, y: axis };
    if (canvas.dataset.secondAxis) {
        scales.second = { ...axis, position: "right", grid: { display: false } };
    }
    return {
        animation: false,
        maintainAspectRatio: false,
        interaction: { intersect: false, mode: "index" },
        plugins: { legend: { labels: { color: text, boxHeight: 1 }, position: "bottom" } },
        scales,
    };
}

function draw() {
    document.querySelectorAll("canvas[data-source]").forEach((canvas) => {
        const source = document.getElementById(canvas.dataset.source);
        const data = JSON.parse(source.textContent);
        const values = { labels: labels(data.times), datasets: datasets(data, canvas) };
        canvas.parentElement.hidden = !data.times.length;
        const empty = document.querySelector(`[data-empty-for="${canvas.dataset.source}"]`);
        if (empty) {
            empty.hidden = Boolean(data.times.length);
        }
        const chart = drawn.get(canvas);
        if (chart) {
            chart.data = values;
            chart.options = options(canvas);
            chart.update("none");
        } else {
            drawn.set(canvas, new Chart(canvas, { type: canvas.dataset.chart, data: values, options: options(canvas) }));
        }
    });
}

// Alpine sets the theme's class while the page loads.
window.addEventListener("load", () => {
    draw();
    new MutationObserver(draw).observe(document.documentElement, { attributeFilter: ["class"] });
});
document.addEventListener("htmx:afterSettle", draw);
