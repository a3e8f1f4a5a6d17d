/** On a phone a project's pages stand in one line that scrolls: brings the current one into view. */
document.querySelector('.nav [aria-current="page"]')?.scrollIntoView({ block: "nearest", inline: "center" });
