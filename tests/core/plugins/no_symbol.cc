// A shared object that is no plugin.
extern "C" int kvlab_plugim() { return 0; }
