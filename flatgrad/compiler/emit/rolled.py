def emit_rolled(a,b): raise NotImplementedError
