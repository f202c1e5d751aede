"""The normal form: PyTorch's spellings of an operator brought to the few that the table of operators knows."""
