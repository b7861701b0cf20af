# Load over a bad network; tests/soak/soak runs it, and tests/e2e/test_soak.py in the lab.
soak_files = tests/soak/soak tests/soak/network.py tests/soak/relay.py tests/soak/soaking.py
EXTRA_DIST += $(soak_files)
