import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from storage import CorruptFile, InputError
from storage import lock as lock_module
from storage.lock import RunLock

HOLDER = """
import sys, time
from storage.lock import RunLock
with RunLock(sys.argv[1], purpose="sync"):
    print("held", flush=True)
    time.sleep(60)
"""


def newest(out):
    """The newest generation's file."""
    return max((out / "lock").glob("[!.]*.json"), key=lambda path: int(path.stem))


def rewrite(path, **changes):
    """Change the newest holder's own words."""
    content = json.loads(path.read_text())
    for key, value in changes.items():
        part = content["process"] if key in content["process"] else content
        part[key] = value
    path.write_text(json.dumps(content))


@pytest.fixture
def other_process(tmp_path):
    """Another process that holds the lock."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_a_live_holder_keeps_others_out_and_is_named(tmp_path, other_process):
    with pytest.raises(InputError) as error, RunLock(tmp_path, purpose="run"):
        pass
    assert f"{tmp_path} is in use by pid {other_process.pid} on " in str(error.value)
    assert "(sync, since " in str(error.value)


def test_a_killed_holder_is_followed_at_once(tmp_path, other_process):
    other_process.kill()
    other_process.wait()
    with RunLock(tmp_path, purpose="run") as lock:
        lock.check()
        assert lock.generation == 2
        assert [path.name for path in (tmp_path / "lock").iterdir()] == ["2.json"]


def test_a_killed_holder_that_nobody_has_waited_for_is_followed_at_once(tmp_path, other_process):
    other_process.kill()
    os.waitid(os.P_PID, other_process.pid, os.WEXITED | os.WNOWAIT)  # a zombie now
    with RunLock(tmp_path, purpose="run") as lock:
        lock.check()


def test_of_many_that_want_it_at_once_one_gets_it(tmp_path):
    got, refused, done = [], [], threading.Event()

    def want():
        try:
            with RunLock(tmp_path, purpose="run") as lock:
                got.append(lock.generation)
                done.wait(10)
        except InputError as error:
            refused.append(str(error))

    threads = [threading.Thread(target=want) for _ in range(8)]
    for thread in threads:
        thread.start()
    while len(got) + len(refused) < 8:
        time.sleep(0.01)
    done.set()
    for thread in threads:
        thread.join()
    assert got == [1]
    assert all("in use by pid" in message for message in refused)


def test_a_released_lock_is_free_and_generations_only_rise(tmp_path):
    for generation in (1, 2, 3):
        with RunLock(tmp_path, purpose="run") as lock:
            assert lock.generation == generation
            with pytest.raises(InputError, match="in use"), RunLock(tmp_path, purpose="sync"):
                pass
        with pytest.raises(InputError, match="taken over"):
            lock.check()


def test_a_holder_whose_lock_was_taken_is_told_although_it_asks_for_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr("storage.lock.RENEW_EVERY_S", 0.05)
    told = threading.Event()
    with RunLock(tmp_path, purpose="run") as sleeper:
        sleeper.on_lost = told.set
        time.sleep(0.2)
        assert not told.is_set()
        path = newest(tmp_path)
        path.with_name(f"{int(path.stem) + 1:0{len(path.stem)}d}.json").write_bytes(
            path.read_bytes()
        )
        assert told.wait(10)
    assert told.is_set()


def test_an_error_inside_releases_it(tmp_path):
    with pytest.raises(RuntimeError), RunLock(tmp_path, purpose="run"):
        raise RuntimeError
    with RunLock(tmp_path, purpose="run"):
        pass


def test_a_holder_of_another_machine_is_free_only_when_it_has_not_renewed(tmp_path):
    with RunLock(tmp_path, purpose="run") as sleeper:
        rewrite(newest(tmp_path), host="elsewhere", pid=1, started="0")
        with pytest.raises(InputError, match="on elsewhere"), RunLock(tmp_path, purpose="sync"):
            pass
        path = newest(tmp_path)
        old = time.time() - 61
        os.utime(path, (old, old))
        with RunLock(tmp_path, purpose="sync") as successor:
            successor.check()
            with pytest.raises(InputError, match="another process has taken over"):
                sleeper.check()
    with RunLock(tmp_path, purpose="run") as third:  # the sleeper's end has spoilt nothing
        assert third.generation == 3


def far_away(out, renewed_ago=0.0):
    """Make the newest holder one that nobody here can see."""
    rewrite(newest(out), host="elsewhere")
    at = time.time() - renewed_ago
    os.utime(newest(out), (at, at))


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(lock_module, "EXPIRES_AFTER_S", 1.0)
    monkeypatch.setattr(lock_module, "LOOK_EVERY_S", 0.01)


@pytest.mark.usefixtures("impatient")
def test_a_silent_holder_of_another_machine_is_waited_for_until_it_has_expired(tmp_path):
    said = []
    with RunLock(tmp_path, purpose="run"):
        far_away(tmp_path, renewed_ago=0.5)
        lock_module.outwait(tmp_path, said.append)
        with RunLock(tmp_path, purpose="run") as successor:
            assert successor.generation == 2
    assert len(said) == 1
    assert "on elsewhere" in said[0]


@pytest.mark.usefixtures("impatient")
def test_a_holder_of_another_machine_that_renews_is_waited_for_no_longer(tmp_path, monkeypatch):
    monkeypatch.setattr(lock_module, "EXPIRES_AFTER_S", 60.0)
    with RunLock(tmp_path, purpose="run"):
        far_away(tmp_path, renewed_ago=5.0)
        renewal = threading.Timer(0.2, os.utime, [newest(tmp_path)])
        renewal.start()
        lock_module.outwait(tmp_path, lambda line: None)
        renewal.join()
        with pytest.raises(InputError, match="on elsewhere"), RunLock(tmp_path, purpose="run"):
            pass


def test_a_holder_that_can_be_seen_from_here_is_not_waited_for(tmp_path, other_process):
    said = []
    lock_module.outwait(tmp_path, said.append)
    assert said == []


def test_a_pid_that_was_given_to_another_process_does_not_hold(tmp_path):
    with RunLock(tmp_path, purpose="run"):
        rewrite(newest(tmp_path), started="12")
        with RunLock(tmp_path, purpose="run") as lock:
            lock.check()


def test_a_holder_that_this_user_cannot_look_at_is_not_taken_for_dead(tmp_path, monkeypatch):
    """Another user's, on a machine whose /proc hides those."""
    sleeper = subprocess.Popen(["sleep", "60"])
    read_text, hidden = Path.read_text, f"/proc/{sleeper.pid}/stat"

    def read_others(path):
        if str(path) == hidden:
            raise FileNotFoundError(2, "No such file or directory", hidden)
        return read_text(path)

    def signal_others(pid, signum):
        raise PermissionError if pid == sleeper.pid else ProcessLookupError

    with RunLock(tmp_path, purpose="run"):
        rewrite(newest(tmp_path), pid=sleeper.pid)
        monkeypatch.setattr(Path, "read_text", read_others)
        with monkeypatch.context() as foreign:
            foreign.setattr(os, "kill", signal_others)
            foreign.setattr(os, "access", lambda path, mode: False)
            with pytest.raises(InputError, match="in use"), RunLock(tmp_path, purpose="run"):
                pass
    sleeper.kill()
    sleeper.wait()


def test_a_holder_in_another_container_is_not_taken_for_dead(tmp_path):
    """Its pid means nothing here, although host name and machine may be the same."""
    with RunLock(tmp_path, purpose="run"):
        boot = json.loads(newest(tmp_path).read_text())["process"]["boot"].split()[0]
        rewrite(newest(tmp_path), boot=f"{boot} pid:[1]", pid=2**22)
        with pytest.raises(InputError, match="in use"), RunLock(tmp_path, purpose="run"):
            pass


def test_the_lock_is_renewed_while_it_is_held(tmp_path, monkeypatch):
    monkeypatch.setattr("storage.lock.RENEW_EVERY_S", 0.01)
    with RunLock(tmp_path, purpose="run"):
        os.utime(newest(tmp_path), (0, 0))
        for _ in range(200):
            if newest(tmp_path).stat().st_mtime > 1:
                break
            time.sleep(0.01)
        else:
            pytest.fail("not renewed")


def test_a_wish_to_stop_outlasts_a_renewal_that_was_under_way(tmp_path, monkeypatch):
    monkeypatch.setattr(lock_module, "RENEW_EVERY_S", 0.01)
    commit, begun, go_on = lock_module.write_atomic, threading.Event(), threading.Event()

    def slow(path, data, **options):
        if threading.current_thread().name == "run-lock" and not begun.is_set():
            monkeypatch.setattr(lock_module, "RENEW_EVERY_S", 60.0)
            begun.set()
            go_on.wait(10)
        commit(path, data, **options)

    monkeypatch.setattr(lock_module, "write_atomic", slow)
    with RunLock(tmp_path, purpose="run") as lock:
        assert begun.wait(10)
        asking = threading.Thread(target=lock.ask_to_stop)
        asking.start()
        asking.join(0.2)
        go_on.set()
        asking.join()
        time.sleep(0.2)  # for the renewal to land, should it come after
        assert lock_module.must_stop(tmp_path, lock.generation)
        monkeypatch.setattr(lock_module, "RENEW_EVERY_S", 0.01)


def test_a_lock_file_that_cannot_be_read_is_named_until_it_expires(tmp_path):
    with RunLock(tmp_path, purpose="run"):
        pass
    newest(tmp_path).write_text("{")
    with pytest.raises(CorruptFile, match=r"1\.json"), RunLock(tmp_path, purpose="run"):
        pass
    os.utime(newest(tmp_path), (0, 0))
    with RunLock(tmp_path, purpose="run") as lock:
        assert lock.generation == 2


def test_a_lock_folder_that_was_deleted_is_not_ours_any_more(tmp_path):
    with RunLock(tmp_path, purpose="run") as lock:
        newest(tmp_path).unlink()
        with pytest.raises(InputError, match="another process has taken over"):
            lock.check()
