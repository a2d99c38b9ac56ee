"""SimpleITK, imported in one place: it weighs 270 MB, and an installation that only serves may lack it."""

from augserver.errors import StateError

try:
    import SimpleITK as sitk
except ImportError as error:
    raise StateError(
        f"reading scans needs SimpleITK, which cannot be imported here ({error}): pip install SimpleITK, or take the container image that "
        "reads scans (docker/README.md)"
    ) from error

__all__ = ["sitk"]
