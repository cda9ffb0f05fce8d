"""How many examples a fuzzer tries: 200, or 10,000 with `-m stress`."""

from hypothesis import HealthCheck, settings

FEW, MANY = 200, 10_000


def examples(number: int) -> settings:
    """So many examples, each as slow as it is: the machine may be busy, and the fuzzers have limits of their own."""
    return settings(max_examples=number, deadline=None, database=None, suppress_health_check=list(HealthCheck))
