"""Demonstrations: networks that learn by each rule, paths over surfaces, states in fewer bytes."""
