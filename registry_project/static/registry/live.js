// What is shared by all live pages: when they were refreshed, that the server is out of reach, times in the viewer's
// zone. htmx does the polling; each answer says when to ask again.
"use strict";

const hours = { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" };
const clock = new Intl.DateTimeFormat([], hours);
const day = new Intl.DateTimeFormat([], { day: "numeric", month: "short", ...hours });
const year = new Intl.DateTimeFormat([], { day: "numeric", month: "short", year: "numeric", ...hours });

function localizeTimes(root) {
    root.querySelectorAll("time[datetime]:not([data-local])").forEach((element) => {
        const time = new Date(element.dateTime);
        element.textContent = (time.getFullYear() === new Date().getFullYear() ? day : year).format(time);
        element.dataset.local = "";
    });
}

function showFreshness(problem) {
    const refreshed = document.getElementById("rm-refreshed");
    const banner = document.getElementById("rm-unreachable");
    if (!refreshed || !banner) {
        return;
    }
    banner.hidden = !problem;
    if (problem) {
        banner.textContent = `${problem} What you see is from ${refreshed.dataset.at || "when the page was opened"}. Trying again.`;
        return;
    }
    refreshed.dataset.at = clock.format(new Date());
    refreshed.textContent = `Refreshed at ${refreshed.dataset.at}.`;
}

document.addEventListener("DOMContentLoaded", () => {
    localizeTimes(document);
    showFreshness("");
    // A browser leaves it out where something else took the focus while the page was being built.
    document.querySelector("[autofocus]")?.focus();
});
document.addEventListener("htmx:beforeSwap", (event) => {
    // A session that ended answers with the log in page.
    if (new URL(event.detail.xhr.responseURL, location.href).pathname.endsWith("/login/")) {
        event.detail.shouldSwap = false;
        location.reload();
    }
});
document.addEventListener("htmx:afterRequest", (event) => {
    if (event.detail.successful) {
        showFreshness("");
    } else if (event.detail.failed && event.detail.xhr.status) {
        showFreshness(`The server answered with an error (${event.detail.xhr.status}).`);
    }
});
["htmx:sendError", "htmx:timeout"].forEach((name) => {
    document.addEventListener(name, () => showFreshness("The server cannot be reached."));
});
document.addEventListener("htmx:afterSettle", () => localizeTimes(document));
document.addEventListener("visibilitychange", () => {
    const live = document.getElementById("rm-live");
    if (live && !document.hidden) {
        htmx.trigger(live, "refresh");
    }
});
