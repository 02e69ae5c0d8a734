// Before each file of component tests.
export {};
