"""All that is CUDA's: the backend, its queue and memory, the driver through ctypes, and the compiled kernels.

Only `driver` and `fatbin` can be imported where pycuda is missing; the backend is loaded when it is asked for.
"""
