"""What a data set has and whether it is sound: datalist, volumes, bits, names, and who counts as labelled."""
