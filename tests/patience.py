"""How long tests wait for what must come. It bounds a test that hangs and says nothing of speed."""

PATIENCE = 600  # seconds; a busy machine of two cores takes a tenth of it for what takes a second elsewhere
