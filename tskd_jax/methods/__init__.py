"""Methods: how the parts make a policy of a dataset."""
