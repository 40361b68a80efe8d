"""Files that are whole or not there: text, tables and tensors."""
