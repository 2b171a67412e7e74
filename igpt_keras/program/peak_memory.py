import resource
import sys


def peak_memory():
    """Most bytes of main memory that this process has held."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # Linux counts in kibibytes.
    return peak if sys.platform == "darwin" else 1024 * peak
