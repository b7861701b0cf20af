"""test_soak.py - the soak of tests/soak in the lab: there the kernel seals, and netem makes the
weather. For a short time on each kernel, or RINGTLS_SOAK seconds; by RINGTLS_SEED another one.
Where the kernel has no TLS it is "tests/soak/soak", by itself.
"""
import os
import sys

sys.path.append(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "soak"))

from e2e import MUST, Failure, Payloads, Skip, has, main  # noqa: E402
from soaking import soak  # noqa: E402

SECONDS = int(os.environ.get("RINGTLS_SOAK") or 20)
SEED = int(os.environ.get("RINGTLS_SEED") or 1)


def test(plan):
    if "ktls" not in MUST and not has("ktls"):
        raise Skip("no kernel TLS here: tests/soak/soak is for the other lanes")
    with plan.check("nothing is lost, wrong or stuck on a bad network"), Payloads() as payloads:
        counts = soak(payloads, SECONDS, SEED, plan.note, clients=1)
        if not counts.is_good():
            raise Failure(counts.text(SECONDS))


if __name__ == "__main__":
    sys.exit(main(test, SECONDS + 300))
