//! One webhook request, and the proof of who sent it.
