"""fastopt where NumPy training already happens: one module a library, each in the library's own form.

An adapter finds the arrays and calls `update`. None of the libraries is needed until its adapter is used.

Where a library holds the state (scikit-learn, the courses), an adapter shows fastopt's arrays to it as
views. As long as the same views come back, nothing is copied; anything else that comes back becomes the
state. Each test module skips itself where its library is missing; ``pip install -e ".[adapters-test]"``
installs all of them.

Examples
--------
>>> from fastopt.adapters import cs231n
>>> W, config = cs231n.adam(np.ones(2), np.ones(2))  # as in the course, with fastopt's step
>>> W.round(3)
array([0.999, 0.999])
"""
