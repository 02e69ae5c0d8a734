// Before each file of component tests: what jsdom lacks and the components ask for.

window.matchMedia = (media) => Object.assign(new EventTarget(), { media, matches: false }) as MediaQueryList;
window.scrollTo = () => undefined;
Element.prototype.animate ??= () => ({ finished: Promise.resolve(), cancel() {}, addEventListener() {} }) as unknown as Animation;
