"""How ADA-SAM learns: objectives, their losses, teachers, and the slices as samples."""
