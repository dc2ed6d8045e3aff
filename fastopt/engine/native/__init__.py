"""What Numba compiles, and how that becomes object code: imported only by a process that compiles."""
