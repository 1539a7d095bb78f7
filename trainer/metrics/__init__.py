"""Figures computed from arrays: calibration, separation, intervals. Imports no other room."""
