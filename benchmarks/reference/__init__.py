"""What other projects do, written anew from their public descriptions, to be timed beside the pipeline."""
