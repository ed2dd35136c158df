"""Admission: what is changed and refused after authorization and before storage."""
