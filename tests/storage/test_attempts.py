import json
import os
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from snapshots import trial

from storage import CorruptFile, InputError
from storage.attempts import (
    Claim,
    claim_attempt,
    entitled,
    is_current,
    list_attempts,
    read_all_claims,
    read_claims,
)


def test_attempts_are_numbered_and_the_last_is_current(tmp_path):
    first = claim_attempt(tmp_path, trial(1), -1)
    assert (first.attempt, first.first_step) == (1, -1)
    assert is_current(tmp_path, first)
    second = claim_attempt(tmp_path, trial(1), lambda claims: claims[-1].attempt * 10)
    assert (second.attempt, second.first_step) == (2, 10)
    assert not is_current(tmp_path, first)
    assert is_current(tmp_path, second)
    other = claim_attempt(tmp_path, trial(2), -1)
    assert read_claims(tmp_path, trial(1)) == [first, second]
    assert read_all_claims(tmp_path) == {trial(1): [first, second], trial(2): [other]}
    assert read_claims(tmp_path, trial(3)) == []
    assert read_all_claims(tmp_path / "elsewhere") == {}


def test_claimers_at_once_each_get_a_number_and_follow_all_before_them(tmp_path):
    """The resume point is chosen against the claims that it follows, also after a lost race."""
    claims = []

    def claim():
        claims.append(claim_attempt(tmp_path, trial(1), len))

    threads = [threading.Thread(target=claim) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = sorted((claim.attempt, claim.first_step) for claim in claims)
    assert found == [(number + 1, number) for number in range(12)]


def test_ten_follows_nine(tmp_path):
    for _ in range(11):
        claim_attempt(tmp_path, trial(1), -1)
    assert list_attempts(tmp_path, trial(1)) == list(range(1, 12))


@settings(deadline=None)
@given(
    st.lists(st.integers(-1, 8), min_size=1, max_size=5),
    st.integers(0, 9),
)
def test_of_attempts_within_their_rights_one_is_entitled_to_each_step(first_steps, step):
    """The newest one that began before the step, as a plain walk through the claims finds it."""
    claims = [Claim(trial(1), n + 1, first) for n, first in enumerate([-1, *first_steps])]
    owner = 0
    for claim in claims:
        if claim.first_step < step:
            owner = claim.attempt
    writers = [claim.attempt for claim in claims if claim.first_step < step]
    assert [attempt for attempt in writers if entitled(step, attempt, claims)] == [owner]


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{}", '{"trial_id": 1}', json.dumps({**Claim(trial(2), 1, 0).__dict__}),
     json.dumps({**Claim(trial(1), 1, 0).__dict__, "first_step": "x"})],
)  # fmt: skip
def test_a_claim_that_cannot_be_read_is_named(tmp_path, content):
    claim_attempt(tmp_path, trial(1), -1)
    path = tmp_path / "attempts" / trial(1) / "1.json"
    path.write_text(content)
    with pytest.raises(CorruptFile) as error:
        read_claims(tmp_path, trial(1))
    assert error.value.path == str(path)


def test_a_claim_whose_maker_died_before_its_content_is_passed_over(tmp_path):
    first = claim_attempt(tmp_path, trial(1), -1)
    path = tmp_path / "attempts" / trial(1) / "2.json"
    path.touch()
    with pytest.raises(CorruptFile):  # somebody may be about to write it
        claim_attempt(tmp_path, trial(1), 5)
    os.utime(path, (0, 0))
    assert read_claims(tmp_path, trial(1)) == [first]
    third = claim_attempt(tmp_path, trial(1), 5)
    assert third.attempt == 3
    assert read_claims(tmp_path, trial(1)) == [first, third]
    path.with_name("3.json").write_text("{")
    os.utime(path.with_name("3.json"), (0, 0))
    with pytest.raises(CorruptFile):
        read_claims(tmp_path, trial(1))


@pytest.mark.parametrize(
    "name", ["../../etc", "", "ABCDEF012345", "0" * 11, "0" * 13, 12, "0" * 12 + "\n"]
)
def test_names_that_are_no_trial_ids_reach_no_path(tmp_path, name):
    with pytest.raises(InputError, match="is not 12 hex digits"):
        claim_attempt(tmp_path, name, -1)
    assert list(tmp_path.iterdir()) == []
