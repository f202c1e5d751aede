/* What can be wrong with a node of a model file, or with the tensors it gets. */
#pragma once
#include "fake_runtime.h"

/* The same draws after the same seed. */
void seed_draws(uint64_t seed);
uint64_t draw(uint64_t count);
/* One to three faults: bytes of weights and other tensors, attributes, dimensions, an input that is no constant. The
 * tensors' data must be the node's own, from malloc. */
void damage(node *n);
