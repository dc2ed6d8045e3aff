"""What Numba compiles, and how that becomes object code: imported only by a process that compiles.

A process that finds all code in the cache doesn't import Numba. Numba takes some 50 ms to compile a
function, so short functions that read memory are intrinsics (`pointers`), which take none. It compiles a
function again for each Python integer among its arguments, so constants are NumPy's integers (`lines`).
"""
