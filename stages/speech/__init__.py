"""Speech to words: voice activity, the recognisers and what makes their words fit for use."""
