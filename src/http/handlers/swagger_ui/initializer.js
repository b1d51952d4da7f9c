function matching(groups, phrase) {
  var words = phrase.toLowerCase().split(/\s+/);
  return groups
    .map(function (group, tag) {
      return group.update("operations", function (operations) {
        return operations.filter(function (entry) {
          var parts = [tag, entry.get("method"), entry.get("path"), entry.getIn(["operation", "summary"], "")];
          var text = parts.join(" ").toLowerCase();
          return words.every(function (word) { return text.includes(word); });
        });
      });
    })
    .filter(function (group) { return group.get("operations").size > 0; });
}

// Swagger UI takes every media type with "json" in its name for one document, and quotes the text of an example.
function showLines() {
  var sample = this.fn.getSampleSchema;
  this.fn.getSampleSchema = function (schema, mediaType, options, example) {
    if (/ndjson/.test(mediaType) && typeof example === "string") return example;
    return sample(schema, mediaType, options, example);
  };
}

window.onload = function () {
  window.ui = SwaggerUIBundle({
    url: "../openapi.json",
    dom_id: "#swagger-ui",
    deepLinking: true,
    displayRequestDuration: true,
    persistAuthorization: false,
    tryItOutEnabled: true,
    filter: true,
    defaultModelsExpandDepth: 0,
    validatorUrl: null,
    onComplete: function () {
      window.ui.oas3Actions.setSelectedServer(".");
      var box = document.querySelector(".operation-filter-input");
      if (box) box.placeholder = "Filter by path or words, such as: post candidates";
    },
    plugins: [function () { return { fn: { opsFilter: matching }, afterLoad: showLines }; }],
    presets: [SwaggerUIBundle.presets.apis],
    layout: "BaseLayout"
  });
};
