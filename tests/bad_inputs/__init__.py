"""Tables of bad inputs: each module here has a list ``ROWS``, all of which ``tests/test_bad_inputs.py`` runs."""
