"""Uploads: resumable (tus 1.0) or in one request, on the disk before they are acknowledged, then a job."""
