"""`onelip anomaly`: fit a certified detector to a table, score files of any length, look at the result."""
