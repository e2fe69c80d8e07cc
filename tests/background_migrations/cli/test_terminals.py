"""The command on a terminal: tables as wide as it is, and bars."""

import contextlib
import os
import pty
import re
import signal
import subprocess
import sys
import termios

from tests.background_migrations.cli.conftest import COPIES, COPY

LONG_NAME = "copy_" + "a_very_long_name_" * 5
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@contextlib.contextmanager
def terminal(database, *words, lines, columns):
    """Run the command on a terminal of this size; give its process and what reads the screen's lines up to its end."""
    screen, inside = pty.openpty()
    termios.tcsetwinsize(inside, (lines, columns))
    size = {"COLUMNS": str(columns), "LINES": str(lines)}  # whoever runs the tests may have set others
    environment = {**os.environ, **size, "DATABASE_URL": database.url, "TERM": "xterm"}
    command = [sys.executable, "manage.py", "background_migrate", *words]
    process = subprocess.Popen(command, env=environment, stdin=inside, stdout=inside, stderr=inside)
    os.close(inside)
    reader = os.fdopen(screen, "rb", buffering=0)

    def shown():
        while True:
            try:
                yield ESCAPES.sub("", reader.read(65_536).decode(errors="replace"))
            except OSError:  # the other end is closed
                return

    try:
        yield process, shown()
    finally:
        process.kill()
        process.wait(timeout=60)
        reader.close()


def test_watching_on_a_terminal_shows_as_many_as_it_has_room_for_the_busiest_first(bench):
    for number in range(20):
        bench.queue(f"finished {number}", status=2)
    bench.queue(LONG_NAME, status=4)
    with terminal(bench.database, "status", "--watch", lines=12, columns=80) as (process, shown):
        text = ""
        while "more" not in text:
            text += next(shown)
        process.send_signal(signal.SIGINT)
        text += "".join(shown)
        assert process.wait(timeout=60) == 130
    first = text.partition("more")[0].splitlines()
    rows = [line for line in first if "finished " in line or "running" in line]
    assert len(rows) == 7
    assert "running" in rows[0]
    assert "…" in rows[0]
    assert first[-1] == "… and 14 "
    assert max(map(len, first)) <= 80


def test_a_run_on_a_terminal_draws_bars_and_leaves_it_clean(bench):
    bench.connection.execute(COPIES)
    bench.connection.execute(
        "CREATE FUNCTION far.slow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(0.1); RETURN NEW; END'"
    )
    bench.connection.execute("CREATE TRIGGER slow BEFORE UPDATE ON far.copies FOR EACH ROW EXECUTE FUNCTION far.slow()")
    bench.connection.execute("ANALYZE far.copies")
    bench.queue(**COPY, batch_size=5, max_value=30)
    with terminal(bench.database, "run", lines=30, columns=120) as (process, shown):
        text = "".join(shown)
        assert process.wait(timeout=60) == 0
    assert re.search(r"Background migrations +━+ 0/1 finished", text)
    assert re.search(r"count +━+.* \d+\.\d %, about \d+ s left", text)
    assert text.splitlines()[-1] == "Finished 1 background migration."


def test_tables_on_a_terminal_keep_to_its_width(bench):
    bench.queue(LONG_NAME)
    with terminal(bench.database, "status", lines=30, columns=80) as (process, shown):
        lines = "".join(shown).splitlines()
        assert process.wait(timeout=60) == 0
    assert max(map(len, lines)) <= 80
    heading, _, *rows = [line for line in lines if line.strip()]
    assert heading.split("  ")[0] == "name"
    width = heading.index("status")
    assert "".join(row[:width].strip() for row in rows) == LONG_NAME
