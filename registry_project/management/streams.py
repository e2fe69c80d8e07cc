"""Django's streams of a command, as an app's command line wants them."""

from collections.abc import Iterator
from contextlib import contextmanager

from django.core.management.base import OutputWrapper


@contextmanager
def left_alone(*streams: OutputWrapper) -> Iterator[None]:
    """Keep Django from colouring what is written and from ending each piece of it with a line break."""
    before = [(stream, stream.ending, stream.style_func) for stream in streams]
    for stream in streams:
        stream.ending, stream.style_func = "", None
    try:
        yield
    finally:
        for stream, ending, style_func in before:
            stream.ending, stream.style_func = ending, style_func
