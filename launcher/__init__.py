"""One phase on several devices or machines: cut, start, watch, merge."""
