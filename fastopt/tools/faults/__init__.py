"""Wrong input, interrupts and damaged files, as everybody's Adam takes them: tables of ``fastopt verify``."""
