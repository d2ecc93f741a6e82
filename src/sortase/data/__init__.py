"""A tokenised dataset: Arrow and NumPy in, datasets, arrays and plans out; nothing here knows about models or runs."""
