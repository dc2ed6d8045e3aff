"""Constructors of other libraries: the same in fastopt, or the reason why not."""
