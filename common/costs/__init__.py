"""What a run costs: measured stage by stage as it goes, and foretold by a dry run."""
