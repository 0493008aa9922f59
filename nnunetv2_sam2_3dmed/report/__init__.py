"""The HTML report of a comparison.

``page`` collects the contents and writes the file; ``plots``, ``training_curves``, ``gallery``, ``surfaces`` and
``volumes`` draw; ``wording`` has the texts, ``methods`` names and colours, ``papers`` published results; ``costs``
and ``operations`` count parameters and operations, ``measure`` measures seconds and memory.
"""
