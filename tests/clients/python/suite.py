"""What the suites for Python have in common. See ../../clients.rs for how they are called and what they say."""

import inspect
import sys
import time

# Seconds that anything may take that is meant to happen.
PATIENCE = 30


def server(order):
    """Has the server end and start again on the same address: `restart` in order, `kill` at once."""
    print(order, flush=True)
    assert sys.stdin.readline(), "nobody answers"


def address():
    host, port = sys.argv[1].rsplit(":", 1)
    return host, int(port)


def wanted(parts):
    """The functions of the parts that were asked for, each told of when it is through."""
    known = {part.__name__: part for part in parts}
    for name in sys.argv[2:]:
        since = time.monotonic()
        yield known[name]
        print(f"{name} ok, {time.monotonic() - since:.1f} s", flush=True)


def refused(error, call):
    """The error that a call must raise."""
    try:
        call()
    except error as raised:
        return raised
    raise AssertionError(f"no {error.__name__} from {inspect.getsource(call).strip()}")


def equal(got, want):
    assert got == want, f"expected {want!r}, got {got!r}"


def until(call, patience=PATIENCE):
    """Calls until it is true, for as long as anything may take."""
    end = time.monotonic() + patience
    while not call():
        assert time.monotonic() < end, f"not within {patience} s: {inspect.getsource(call).strip()}"
        time.sleep(0.05)
