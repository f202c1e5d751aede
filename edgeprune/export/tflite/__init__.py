"""Graph to .tflite, written directly with the flatbuffer schema, without TensorFlow.

lowering   a whole graph to a file                      spelling   many spellings to few, activations fused
precision  which operations run in int8                 layout     channels last without transposes
window     padding of convolutions and pooling          writer     values and constants of one conversion
convolution, pooling, dense, elementwise, reduction, reshaping     the operators' forms
products, broadcasting, indexing, resizing, volumes, transposed     more of them
steps      several nodes in the place of one            constants   nodes that give a constant
versions, sparse, file                                  the file format       read    back again
"""
