"""How RRL-MedSAM learns: objectives, the frozen teacher, the registration branch."""
