"""How fast: timings, and a cost model of machines that are not here."""
