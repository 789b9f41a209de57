"""Published problems with known answers, written as plain scalar Python: fits, and optimisation with constraints."""
