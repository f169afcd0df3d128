"""Stages that several methods share; they combine packages that do not import each other."""
