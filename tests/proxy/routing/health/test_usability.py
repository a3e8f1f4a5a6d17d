"""Credentials that are out of credit or revoked, and how they come back."""

from proxy.routing.health.usability import PROBE_INTERVAL_S, SHARED_THRESHOLD, Usability

NOW = 1000.0


def test_a_rejected_credential_is_skipped_until_the_next_probe() -> None:
    credential = Usability(1)
    assert credential.record_failure(NOW, "out of credit")
    assert credential.is_skipped(NOW + PROBE_INTERVAL_S - 1)
    assert not credential.is_skipped(NOW + PROBE_INTERVAL_S)


def test_one_request_is_the_probe() -> None:
    credential, due = Usability(1), NOW + PROBE_INTERVAL_S
    credential.record_failure(NOW, "revoked")
    credential.begin_call(due)
    assert credential.is_skipped(due) and not credential.is_skipped(due + PROBE_INTERVAL_S)


def test_a_success_makes_it_usable_again() -> None:
    credential = Usability(1)
    credential.record_failure(NOW, "revoked")
    assert credential.record_success() and not credential.is_skipped(NOW)


def test_a_shared_account_needs_repeated_failures() -> None:
    credential = Usability(SHARED_THRESHOLD)
    for _ in range(3):
        for _ in range(SHARED_THRESHOLD - 1):
            assert not credential.record_failure(NOW, "revoked")
        credential.record_success()
    assert not credential.is_skipped(NOW)
    assert [credential.record_failure(NOW, "revoked") for _ in range(SHARED_THRESHOLD)][-1]
