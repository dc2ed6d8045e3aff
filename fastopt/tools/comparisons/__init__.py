"""Every rule beside plain NumPy and beside its equivalents in frameworks: tables of ``fastopt verify``."""
