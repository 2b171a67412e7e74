import contextlib
import gc
import os
import signal
import time

import pytest

from igpt_keras.program import interrupts


@pytest.fixture(autouse=True)
def restore_handlers():
    numbers = (signal.SIGINT, signal.SIGTERM)
    handlers = [signal.getsignal(number) for number in numbers]
    # A job in the background is born deaf to Ctrl-C.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    for number, handler in zip(numbers, handlers):
        signal.signal(number, handler)


def send(number=signal.SIGTERM):
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ends_with_130_and_the_message(number, capfd):
    with pytest.raises(SystemExit) as info:
        with interrupts.handled("Come back."):
            send(number)
    assert info.value.code == 130
    assert "Come back." in capfd.readouterr().err


def test_other_errors_pass():
    with pytest.raises(ValueError, match="mine"):
        with interrupts.handled():
            raise ValueError("mine")


def test_an_error_after_a_signal_counts_as_stopped_and_is_shown(capfd):
    with pytest.raises(SystemExit) as info:
        with interrupts.handled():
            try:
                send()
            except KeyboardInterrupt as error:
                raise SystemError("from C") from error
    assert info.value.code == 130
    assert "SystemError: from C" in capfd.readouterr().err


def test_a_lost_interrupt_is_raised_at_the_next_check():
    steps = []
    with pytest.raises(SystemExit):
        with interrupts.handled():
            for step in range(5):
                try:
                    if step == 2:
                        send()
                except KeyboardInterrupt:
                    pass
                steps.append(step)
                interrupts.check()
    assert steps == [0, 1, 2]


def test_an_interrupt_of_the_garbage_collector_is_raised_again(capfd):
    def interrupted(phase, info):
        gc.callbacks.remove(interrupted)
        send()

    with pytest.raises(SystemExit) as info:
        with interrupts.handled("Come back."):
            gc.callbacks.append(interrupted)
            gc.collect()
            time.sleep(30)
            pytest.fail("went on")
    assert info.value.code == 130
    errors = capfd.readouterr().err
    assert "Come back." in errors
    assert "Traceback" not in errors


def test_deferred_waits_for_the_end_of_the_step(capfd):
    steps = []
    with pytest.raises(SystemExit):
        with interrupts.handled():
            with interrupts.deferred():
                for step in range(5):
                    if step == 2:
                        send()
                    steps.append(step)
                    interrupts.check()
    assert steps == [0, 1, 2]
    assert "Stopping after this step" in capfd.readouterr().err


def test_checked_stops_behind_the_item_of_a_lost_interrupt():
    seen = []
    with pytest.raises(SystemExit):
        with interrupts.handled():
            for item in interrupts.checked(range(5)):
                seen.append(item)
                with contextlib.suppress(KeyboardInterrupt):
                    if item == 2:
                        send()
    assert seen == [0, 1, 2]


def test_deferred_without_another_check_stops_at_its_end():
    with pytest.raises(SystemExit):
        with interrupts.handled():
            with interrupts.deferred():
                send()
            pytest.fail("went on")


def test_a_second_signal_stops_at_once():
    with pytest.raises(SystemExit):
        with interrupts.handled():
            with interrupts.deferred():
                send()
                time.sleep(1.1 * interrupts.TOGETHER)
                send()
                pytest.fail("went on")


def test_signals_that_come_together_are_one():
    """Such as Ctrl-C, and SIGTERM by the program that it stops too."""
    done = False
    with pytest.raises(SystemExit):
        with interrupts.handled():
            with interrupts.deferred():
                send(signal.SIGINT)
                send(signal.SIGTERM)
                done = True
    assert done


def test_ignored_signals_stay_ignored():
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    done = False
    with interrupts.handled():
        send(signal.SIGINT)
        interrupts.check()
        done = True
    assert done
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
