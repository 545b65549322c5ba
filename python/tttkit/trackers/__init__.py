"""Send what a run has recorded to TensorBoard, Weights & Biases, Trackio or CSV files, from outside its training."""
