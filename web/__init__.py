"""The face of the box: uploads, pages, API and live feed over HTTP."""
