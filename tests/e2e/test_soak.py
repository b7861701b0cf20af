"""test_soak.py - the soak of tests/soak in the lab, for a short time: there the kernel seals, and
netem makes the weather. Where the kernel has no TLS ./check runs the longer one by itself.
"""
import os
import sys

sys.path.append(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "soak"))

from e2e import MUST, Failure, Payloads, Skip, has, main  # noqa: E402
from soaking import soak  # noqa: E402

SECONDS = 15


def test(plan):
    if "ktls" not in MUST and not has("ktls"):
        raise Skip("no kernel TLS here: tests/soak/soak is for the other lanes")
    with plan.check("nothing is lost, wrong or stuck on a bad network"), Payloads() as payloads:
        counts = soak(payloads, SECONDS, 1, plan.note, clients=1)
        if not counts.is_good():
            raise Failure(counts.text(SECONDS))


if __name__ == "__main__":
    sys.exit(main(test))
