"""A live half played through the production learner behind its gate, with something put wrong in it or nothing."""
