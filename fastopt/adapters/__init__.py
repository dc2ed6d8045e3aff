"""fastopt where NumPy training already happens: one module a library, each in the library's own form.

An adapter finds the arrays and calls `update`. None of the libraries is needed until its adapter is used.
"""
