"""Knowledge distillation by the flow of the solution procedure (Yim et al., CVPR 2017), on Keras and TensorFlow."""
